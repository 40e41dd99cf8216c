"""The neural networks and the face path around them. TensorFlow, no Beam."""
