"""`python -m drivetrain` is `drivetrain`, also where the script is not on the path."""

from drivetrain.cli.main import main

if __name__ == "__main__":
    main()
