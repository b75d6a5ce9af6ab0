"""The errors of this package. Every message is one line that says what is wrong, where, and what to do.

    LabelerError
    ├── UsageError        wrong arguments or configuration
    │   └── RunError      the run folder does not allow it (locked, other settings, not writable)
    ├── ImageError        one image cannot be read; the error is recorded, and the run continues
    ├── ModelError        a model cannot be found, loaded or used
    │   └── DeviceError   the accelerator no longer responds to this process; a new process may continue
    └── FormatError       a dataset file is damaged, or not of the expected format

``ontologies.OntologyError`` is not part of this tree, because ``ontologies`` imports nothing from this package.
"""


class LabelerError(Exception):
    """Base class of this package's errors. The command line prints the message as it is."""


class UsageError(LabelerError):
    """Wrong arguments or configuration."""


class RunError(UsageError):
    """The run folder does not allow the operation."""


class ImageError(LabelerError):
    """An image cannot be read."""


class ModelError(LabelerError):
    """A model cannot be found, loaded or used."""


class DeviceError(ModelError):
    """The accelerator no longer responds to this process."""


class FormatError(LabelerError):
    """A dataset file is damaged, or not of the expected format."""
