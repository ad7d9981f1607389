/* The mean of the newest answers, element by element, summed up in double precision. */
static void mean_of_@kind@(@kind@ *result, const uint8_t *answers, int32_t kept, int32_t count)
{
    int32_t i, k;
    for (i = 0; i < count; ++i) {
        double sum = 0;
        for (k = 0; k < kept; ++k) {
            @kind@ value;
            copy((uint8_t *)&value, answers + k * @upper@_OUTPUT_BYTES + i * (int32_t)sizeof value,
                 (int32_t)sizeof value);
            sum += value;
        }
        result[i] = (@kind@)(sum / kept);
    }
}

