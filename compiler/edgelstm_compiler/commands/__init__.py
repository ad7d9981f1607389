"""The compiler's commands; `edgelstm` finds them by entry point where the compiler is installed."""
