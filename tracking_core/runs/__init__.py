"""A run's life: it is started, resumed or forked, logged to, looked after and ended."""

from tracking_core.base.interpreters import is_subinterpreter
from tracking_core.errors import SettingsError

if is_subinterpreter():
    # Before anything below is imported: numpy ends the process when such an interpreter ends.
    raise SettingsError(
        "start_run: this is a subinterpreter, in which numpy and JAX do not work and the process cannot be watched; "
        "start the run in the main interpreter of a process (mod_wsgi: WSGIApplicationGroup %{GLOBAL})"
    )
