"""The FiftyOne App: the plugin's entry, operators and panels."""
