"""What `keras.applications.vgg16` has; the network is in `vgg`."""

from keras_cnn_classics.applications._keras_modules import preprocessing_for
from keras_cnn_classics.applications.vgg import VGG16 as VGG16
from keras_cnn_classics.preprocessing import decode_predictions as decode_predictions

preprocess_input = preprocessing_for(__name__)
