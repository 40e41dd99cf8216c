"""How TensorFlow is imported."""

import subprocess
import sys

IMPORTS = """
import sys
from celebface.models.quiet_tensorflow import tf
print([name for name in ("keras", "tensorboard", "h5py", "matplotlib") if name in sys.modules])
import keras, h5py, matplotlib
print(tf.keras.Model is keras.Model)
"""


def test_neither_greetings_nor_extras_are_loaded_and_both_can_be_had_later():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True"]
    assert done.stderr == ""
