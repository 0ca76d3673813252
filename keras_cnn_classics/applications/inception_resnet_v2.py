"""What `keras.applications.inception_resnet_v2` has; the network is in `inception_resnet`."""

from keras_cnn_classics.applications._keras_modules import preprocessing_for
from keras_cnn_classics.applications.inception_resnet import InceptionResNetV2 as InceptionResNetV2
from keras_cnn_classics.preprocessing import decode_predictions as decode_predictions

preprocess_input = preprocessing_for(__name__)
