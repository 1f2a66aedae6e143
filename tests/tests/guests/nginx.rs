//! Debian's nginx, as it comes.

use nix::sys::signal::Signal;

use crate::guest::{Load, node, program, rewrite, settled};

/// The service, with the word that its answers hold.
fn service(word: &str) -> String {
    let nginx = program("nginx", "nginx-light");
    format!(
        r#"
[service.web]
command = ["{nginx}", "-e", "stderr", "-p", "{{files}}", "-c", "{{file:nginx.conf}}"]
route = "/web"
state = "none"
stop_signal = "SIGQUIT"
ready_path = "/alive"

[[service.web.file]]
path = "nginx.conf"
template = '''
daemon off;
error_log stderr;
pid {{files}}/nginx.pid;
events {{ worker_connections 128; }}
http {{
    access_log off;
    client_body_temp_path {{files}}/body;
    proxy_temp_path {{files}}/proxy;
    fastcgi_temp_path {{files}}/fastcgi;
    scgi_temp_path {{files}}/scgi;
    uwsgi_temp_path {{files}}/uwsgi;
    server {{
        listen 127.0.0.1:{{port}};
        location / {{ return 200 "{word}"; }}
    }}
}}
'''
"#
    )
}

#[tokio::test]
async fn nginx_is_rolled_from_one_configuration_to_another_under_load_and_no_request_fails() {
    let node = node(&service("first"));
    let before = settled(&node, "web", None).await;
    let load = Load::start(&node, "/web/page");
    load.more(200).await;
    rewrite(&node, &service("second"));
    node.signal(Signal::SIGHUP);
    let after = settled(&node, "web", Some(&before)).await;
    load.more(200).await;
    assert_eq!(load.stop().await, ["first", "second"]);
    assert_ne!(after.sha256, before.sha256, "another configuration is another program");
    assert_eq!(node.get("/web/page").await.text(), "second");

    // The same once more: nothing has changed, so nothing is started.
    node.signal(Signal::SIGHUP);
    let again = node.get_admin("/v1/status").await;
    assert_eq!(again.status, 200);
    assert_eq!(settled(&node, "web", None).await.generation, after.generation);
    node.end().await;
}
