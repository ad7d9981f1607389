static int outside_@kind@(const @kind@ *values, int32_t count, @kind@ low, @kind@ high)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        if (values[i] < low || values[i] > high) {
            return 1;
        }
    }
    return 0;
}

