//! Minimal fair configurations of other proxies: bodies in memory, no buffering of answers, connections kept, nothing written per request,
//! as many threads as processors. That is what `gpurouter serve` does in a measurement, too.

/// nginx in front of the mock, on the next port.
pub fn nginx(upstream: u16) -> String {
    format!(
        "\
# nginx in front of the mock of `gpurouter bench proxy`. In another terminal:
#   nginx -p /tmp -e stderr -c FILE
#   gpurouter bench proxy --upstream-port {upstream} --against nginx=http://127.0.0.1:{port}
daemon off;
pid gpurouter-bench-nginx.pid;
worker_processes auto;
worker_rlimit_nofile 16384;
error_log stderr crit;

events {{
    worker_connections 8192;
}}

http {{
    access_log off;
    client_body_temp_path gpurouter-bench-nginx/body;
    proxy_temp_path gpurouter-bench-nginx/proxy;
    fastcgi_temp_path gpurouter-bench-nginx/fastcgi;
    uwsgi_temp_path gpurouter-bench-nginx/uwsgi;
    scgi_temp_path gpurouter-bench-nginx/scgi;

    keepalive_requests 1000000000;
    client_max_body_size 64m;
    # By default a body of more than 16 KiB goes through a file.
    client_body_buffer_size 1m;
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    # By default a stream is held back until a buffer is full.
    proxy_buffering off;
    proxy_read_timeout 600s;

    upstream mock {{
        server 127.0.0.1:{upstream};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}

    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://mock;
        }}
    }}
}}
",
        port = upstream.saturating_add(1)
    )
}

/// `HAProxy` in front of the mock, on the next port but one.
pub fn haproxy(upstream: u16) -> String {
    format!(
        "\
# HAProxy in front of the mock of `gpurouter bench proxy`. In another terminal:
#   haproxy -f FILE
#   gpurouter bench proxy --upstream-port {upstream} --against haproxy=http://127.0.0.1:{port}
global
    maxconn 8192

defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    # By default a stream waits for more of it, and a client's end is not passed on.
    option http-no-delay
    option abortonclose
    # By default a new client's first request opens a connection of its own.
    http-reuse always

frontend bench
    bind 127.0.0.1:{port} backlog 4096
    default_backend mock

backend mock
    server mock 127.0.0.1:{upstream}
",
        port = upstream.saturating_add(2)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_follow_the_mocks() {
        assert!(nginx(8900).contains("listen 127.0.0.1:8901 "));
        assert!(nginx(8900).contains("server 127.0.0.1:8900;"));
        assert!(haproxy(8900).contains("bind 127.0.0.1:8902 "));
        assert!(haproxy(8900).contains("server mock 127.0.0.1:8900\n"));
    }
}
