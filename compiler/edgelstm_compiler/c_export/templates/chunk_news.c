    {
        const uint8_t *clock = (const uint8_t *)state + @clock@;
        int32_t steps = 0, news = 0;
        int i;
        for (i = 0; i < 4; ++i) {
            ((uint8_t *)&steps)[i] = clock[i];
        }
@checks@
        return news;
    }
