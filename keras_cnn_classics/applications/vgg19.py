"""What `keras.applications.vgg19` has; the network is in `vgg`."""

from keras_cnn_classics.applications._keras_modules import preprocessing_for
from keras_cnn_classics.applications.vgg import VGG19 as VGG19
from keras_cnn_classics.preprocessing import decode_predictions as decode_predictions

preprocess_input = preprocessing_for(__name__)
