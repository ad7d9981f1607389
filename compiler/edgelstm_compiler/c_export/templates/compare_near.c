static int equal_@kind@(const @kind@ *values, const unsigned char *expected, int32_t count)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        @kind@ wanted, size, error;
        memcpy(&wanted, expected + i * (int32_t)sizeof wanted, sizeof wanted);
        size = wanted < 0 ? -wanted : wanted;
        error = values[i] < wanted ? wanted - values[i] : values[i] - wanted;
        if (!(error <= @bound@ * (size > 1 ? size : 1))) {
            return 0;
        }
    }
    return 1;
}
