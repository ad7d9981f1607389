/* One at the largest of each row, zeros elsewhere. */
static void votes_of_@kind@(@kind@ *values, int32_t rows, int32_t columns)
{
    int32_t i, best;
    for (; rows > 0; --rows) {
        best = 0;
        for (i = 1; i < columns && values[best] == values[best]; ++i) {
            if (!(values[i] <= values[best])) {
                best = i;
            }
        }
        for (i = 0; i < columns; ++i) {
            values[i] = (@kind@)(i == best);
        }
        values += columns;
    }
}

