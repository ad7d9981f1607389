/* What @way@ a step. */
typedef struct {
@body@
} @name@_@kind@;
typedef char @proof@[sizeof(@name@_@kind@) == @wanted@ ? 1 : -1];