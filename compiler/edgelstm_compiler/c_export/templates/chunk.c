int32_t @name@_chunk(const void *weights, void *state, void *scratch, const @name@_input *in,
@indent@@name@_output *out)
{
    int32_t code = @name@_run(weights, state, scratch, in, out, @upper@_FRAMES);
    if (code < 0) {
        return code;
    }
@news@
}

