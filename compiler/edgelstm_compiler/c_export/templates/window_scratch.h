/* Working memory of a step. */
typedef struct {
    uint8_t kernel[@kernel_bytes@];
@kept@    @name@_output output; /* of a window that is not over yet */
} @upper@_ALIGNED @name@_scratch;
typedef char @name@_scratch_has_its_size[sizeof(@name@_scratch) <= @upper@_SCRATCH_BYTES ? 1 : -1];
