//! HTTP/1.1 server and client over `std::net`: framing, limits, time-outs, cancellation.
