        if ((new != 0) != (step == due)) {
            return 1 + step;
        }
        if (new == 0) {
            in += @upper@_INPUT_BYTES;
            continue;
        }
        due += @upper@_HOP;
