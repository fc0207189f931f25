"""The examples are imported from their folders, without being installed."""

import sys
from pathlib import Path

sys.path += [str(folder) for folder in Path(__file__).parent.iterdir() if (folder / "pyproject.toml").exists()]
