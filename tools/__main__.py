"""``python -m edgeiqa.tools`` is the ``edgeiqa`` command."""

from .command import main

main()
