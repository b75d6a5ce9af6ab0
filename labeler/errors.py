"""What can go wrong, as one tree. Every message is one line: what, where, what to do.

    LabelerError
    ├── UsageError        wrong arguments or configuration
    │   └── RunError      the run folder does not allow what was asked (locked, other settings, unwritable)
    ├── ImageError        one image cannot be read; recorded with the image, the run goes on
    ├── ModelError        a model cannot be found, loaded or used
    │   └── DeviceError   the accelerator is lost to this process; another one can go on
    └── FormatError       a dataset file does not say what it should

``ontologies.OntologyError`` stands beside this tree, since ``ontologies`` imports nothing from here.
"""


class LabelerError(Exception):
    """Base of this package's errors; its text is shown to users as it is."""


class UsageError(LabelerError):
    """Arguments or configuration that cannot be meant."""


class RunError(UsageError):
    """The run folder does not allow what was asked."""


class ImageError(LabelerError):
    """One image cannot be read."""


class ModelError(LabelerError):
    """A model cannot be found, loaded or used."""


class DeviceError(ModelError):
    """The accelerator is lost to this process."""


class FormatError(LabelerError):
    """A dataset file does not say what it should."""
