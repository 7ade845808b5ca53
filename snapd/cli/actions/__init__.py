"""What the commands do, a file a noun. An action takes the client (those that need no daemon do
without), the arguments and the screen, and returns an exit code."""
