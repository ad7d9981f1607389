/* The columns that the next window shares with this one move to its beginning. */
static void move_on(uint8_t *window, int32_t outer, int32_t inner)
{
    for (; outer > 0; --outer) {
        copy(window, window + HOP * inner, (WINDOW - HOP) * inner);
        window += WINDOW * inner;
    }
}

