"""virtsnap: a thin D-Bus client; whatever it does, a desktop program can do with the same calls.

parser/: what can be typed; actions/: what it does, a file a noun; output/: how it is shown;
client.py: the daemon as actions see it; follow.py: a job until its end; confirm.py: questions;
failures.py: errors as sentences and exit codes; templates.py: where policy templates are;
definition.py: a policy by its keys; editor.py: a person's own editor;
complete.py: what a shell offers. Nothing here imports asyncio or dbus_next until a
command needs the daemon.
"""
