"""The commands of the runtime, one file each; more come by entry point where they are installed."""
