/* The most frequent of the newest answers, element by element; of those that are equally frequent,
   the newest, which stands at `place`. */
static void most_frequent(uint8_t *result, const uint8_t *answers, int32_t kept, int32_t place,
                          int32_t count, int32_t size)
{
    int32_t i, j, k, byte;
    for (i = 0; i < count; ++i) {
        const uint8_t *best = answers;
        int32_t most = 0, at = place;
        for (k = 0; k < kept; ++k) {
            const uint8_t *value = answers + at * @upper@_OUTPUT_BYTES;
            int32_t equal = 0;
            for (j = 0; j < kept; ++j) {
                const uint8_t *other = answers + j * @upper@_OUTPUT_BYTES;
                for (byte = 0; byte < size && value[byte] == other[byte]; ++byte) {
                }
                equal += byte == size;
            }
            if (equal > most) {
                most = equal;
                best = value;
            }
            at = at == 0 ? kept - 1 : at - 1;
        }
        copy(result, best, size);
        result += size;
        answers += size;
    }
}

