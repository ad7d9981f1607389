/* @says@ */
typedef struct {
    uint8_t bytes[@size@];
} @upper@_ALIGNED @name@_@kind@;