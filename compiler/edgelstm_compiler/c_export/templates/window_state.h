/* What is carried from frame to frame: @windows@,
   and where the stream stands. */
typedef struct {
    uint8_t windows[@windows_bytes@];
    int64_t fed, next, answered; /* frame numbers, see @name@_slots and @name@_first_frame */
    int32_t slot, place, kept, unused;
@answers@} @upper@_ALIGNED @name@_state;
typedef char @name@_state_has_its_size[sizeof(@name@_state) <= @upper@_STATE_BYTES ? 1 : -1];
