static int equal_@kind@(const @kind@ *values, const unsigned char *expected, int32_t count)
{
    int32_t i;
    const unsigned char *found = (const unsigned char *)values;
    for (i = 0; i < count * (int32_t)sizeof *values; ++i) {
        if (found[i] != expected[i]) {
            return 0;
        }
    }
    return 1;
}
