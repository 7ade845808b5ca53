"""How things are shown: text made safe, times, words, commands to type, and the screen."""
