"""`python -m keras_cnn_classics` is the command `keras-cnn-classics`."""

from keras_cnn_classics.cli import main

main()
