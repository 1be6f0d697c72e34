"""`python -m consentkit.cli`: the same as `consentkit`."""

from consentkit.cli import main

main()
