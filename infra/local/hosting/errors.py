"""What keeps the host from starting.

HostStartError
├── ConfigurationInvalid   host.json, local.settings.json or a command line value
├── AppImportFailed        the module that holds the app cannot be imported
└── IndexingFailed         the app holds a function that Azure would refuse, too
"""


class HostStartError(Exception):
    """The host cannot start; the message is one sentence for the person at the terminal."""


class ConfigurationInvalid(HostStartError):
    """A setting has a value the host cannot use; the message names file and field."""


class AppImportFailed(HostStartError):
    """Importing the app raised; the message names the file and line."""


class IndexingFailed(HostStartError):
    """A function is declared in a way the Azure Functions worker refuses; the message names the function."""
