//! Evidence into findings. Pure: no socket, no path, no clock.
