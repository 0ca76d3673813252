"""What `keras.applications.resnet50` has; the network is in `resnet`."""

from keras_cnn_classics.applications._keras_modules import preprocessing_for
from keras_cnn_classics.applications.resnet import ResNet50 as ResNet50
from keras_cnn_classics.preprocessing import decode_predictions as decode_predictions

preprocess_input = preprocessing_for(__name__)
