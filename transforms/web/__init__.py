"""Asking the web, politely and safely. Plain functions and classes; nothing here loads Beam or TensorFlow."""
