"""Local engines: what finds weights, loads them and generates text on this machine."""

import os
import sys

from toolkit.engines.spinning import spin_briefly

# Before any of these modules loads PyTorch, with which OpenMP comes.
spin_briefly(os.environ, sys.modules)
