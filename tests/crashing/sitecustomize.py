"""Python loads this at its start if its folder is on PYTHONPATH: marked photos kill whoever opens them, or keep it.

A crash of native code is not to be had at will, so the process sends itself the signal that one ends in. A photo that
keeps its decoder ends with the mark and the path of a file, which is made when it is opened.
"""

import importlib.abc
import importlib.util
import os
import pathlib
import signal
import sys
import threading

MARK = b"this photo kills its decoder"
KEEPS = b"this photo keeps its decoder: "


class _Finder(importlib.abc.MetaPathFinder):
    """Changes Pillow when it is loaded, and costs nothing where it is not."""

    def find_spec(self, name, path, target=None):
        if name != "PIL.Image":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            opens = module.open

            def open_or_die(file, *args, **kwargs):
                if hasattr(file, "getvalue") and MARK in file.getvalue():
                    os.kill(os.getpid(), signal.SIGSEGV)
                if hasattr(file, "getvalue") and KEEPS in file.getvalue():
                    pathlib.Path(os.fsdecode(file.getvalue().partition(KEEPS)[2])).touch()
                    threading.Event().wait()
                return opens(file, *args, **kwargs)

            module.open = open_or_die

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder())
