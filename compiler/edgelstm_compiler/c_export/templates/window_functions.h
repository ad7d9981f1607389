/* A window that is open: it holds `frames` frames of @frames@, the first of which is number
   `first`, counted from 0 since @name@_reset. */
typedef struct {
    int64_t first;
    int32_t frames;
} @name@_slot;

/* The windows that are open, the oldest first; how many there are, @upper@_SLOTS at most. */
int32_t @name@_slots(const @name@_state *state, @name@_slot slots[@upper@_SLOTS]);

/* The first frame of the window that was answered last, counted from 0 since @name@_reset; its last
   one is @upper@_WINDOW - 1 frames behind it. Below 0 before the first answer. */
int64_t @name@_first_frame(const @name@_state *state);

