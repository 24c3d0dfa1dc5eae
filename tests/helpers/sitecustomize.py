"""Python imports this at its start where tests/helpers is on PYTHONPATH: in processes of tests."""

import harness_yaml

harness_yaml.install()
