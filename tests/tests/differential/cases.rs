//! Well-formed traffic: every method, form of target, framing and kind of field that a client may use.

/// What one client sends on one connection.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// What is sent once it is asked for.
    pub(crate) after_100: Vec<u8>,
    /// How many answers come.
    pub(crate) answers: usize,
    /// They have no bodies.
    pub(crate) is_head: bool,
}

fn case(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Case {
    let bytes = bytes.into();
    let is_head = bytes.starts_with(b"HEAD ");
    Case { name: name.into(), bytes, after_100: Vec::new(), answers: 1, is_head }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}

fn with(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n{body}")
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PATCH", "PUT", "PROPFIND"] {
        cases.push(case(format!("method_{method}"), format!("{method} /x HTTP/1.1\r\nHost: a.example\r\n\r\n")));
    }
    let long = format!("/{}", "a".repeat(4_000));
    for (name, target) in [
        ("root", "/"),
        ("query", "/x?a=b&c=%20d&e=/?:@"),
        ("empty_query", "/x?"),
        ("slashes", "/a//b/"),
        ("escaped", "/a%20b%C3%A9%7e"),
        ("lower_escape", "/a%c3%a9"),
        ("parameters", "/a;b=c/d;e"),
        ("reserved", "/a:@!$&'()*+,=b"),
        ("tilde", "/~a-b._c"),
        ("long", &long),
        ("session", "/v1/sessions/0123456789/messages?stream=1"),
    ] {
        cases.push(case(format!("target_{name}"), get(target)));
    }
    let value = "v".repeat(4_000);
    let many: String = (0..60).map(|at| format!("X-Field-{at}: {at}\r\n")).collect();
    for (name, fields) in [
        ("empty", "X-Empty:\r\n".to_owned()),
        ("spaces", "X-Spaces:   a  b   \r\n".to_owned()),
        ("tab", "X-Tab: a\tb\r\n".to_owned()),
        ("twice", "X-Twice: 1\r\nX-Other: x\r\nX-Twice: 2\r\n".to_owned()),
        ("long", format!("X-Long: {value}\r\n")),
        ("many", many),
        ("case", "x-LOWER-Upper: Value\r\n".to_owned()),
        ("cookies", "Cookie: a=1; b=2\r\n".to_owned()),
        ("authorization", "Authorization: Bearer abc.def\r\n".to_owned()),
        ("range", "Range: bytes=0-1\r\nIf-Range: \"x\"\r\n".to_owned()),
        (
            "conditional",
            "If-None-Match: \"x\", W/\"y\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n".to_owned(),
        ),
        ("token", "X!#$%&'*+-.^`|~0: 1\r\n".to_owned()),
        ("accept", "Accept: text/event-stream, */*;q=0.1\r\nAccept-Encoding: gzip\r\n".to_owned()),
    ] {
        cases.push(case(format!("field_{name}"), with(&fields)));
    }
    cases.push(case(
        "field_obs_text",
        [b"GET /x HTTP/1.1\r\nHost: a.example\r\nX-Obs: caf\xe9\r\n\r\n".as_slice()].concat(),
    ));
    cases.push(case("host_with_port", "GET /x HTTP/1.1\r\nHost: a.example:8080\r\n\r\n"));
    cases.push(case("host_is_an_address", "GET /x HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"));
    cases.push(case("blank_line_before", format!("\r\n{}", get("/x"))));

    let big = "x".repeat(1 << 20);
    for (name, fields, body) in [
        ("length", "Content-Length: 5\r\n", "hello"),
        ("length_zero", "Content-Length: 0\r\n", ""),
        ("length_big", "Content-Length: 1048576\r\n", big.as_str()),
        ("chunks", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
        ("chunks_of_one", "Transfer-Encoding: chunked\r\n", "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"),
        ("chunks_none", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("chunks_upper", "Transfer-Encoding: chunked\r\n", "A\r\n0123456789\r\n0\r\n\r\n"),
        ("chunks_with_extension", "Transfer-Encoding: chunked\r\n", "5;name=value\r\nhello\r\n0\r\n\r\n"),
        ("none", "", ""),
    ] {
        cases.push(case(format!("body_{name}"), post(fields, body)));
    }
    cases.push(case("body_of_delete", "DELETE /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nab"));
    cases.push(Case {
        after_100: b"hello".to_vec(),
        ..case("expect_100", post("Content-Length: 5\r\nExpect: 100-continue\r\n", ""))
    });

    for kind in [
        "chunked",
        "trailers",
        "close",
        "nothing",
        "unchanged",
        "missing",
        "broken",
        "moved",
        "cookies",
        "big",
        "events",
    ] {
        cases.push(case(format!("answer_{kind}"), get(&format!("/{kind}"))));
    }
    cases.push(case("answer_to_head", "HEAD /big HTTP/1.1\r\nHost: a.example\r\n\r\n"));
    cases.push(case("http_10", "GET /x HTTP/1.0\r\nHost: a.example\r\n\r\n"));
    cases.push(case("http_10_chunked_answer", "GET /chunked HTTP/1.0\r\nHost: a.example\r\n\r\n"));
    cases.push(case("connection_close", with("Connection: close\r\n")));
    let two = format!("{}{}", get("/first"), get("/chunked"));
    cases.push(Case { answers: 2, ..case("pipelined", two) });
    let bodies = format!("{}{}", post("Content-Length: 5\r\n", "hello"), get("/second"));
    cases.push(Case { answers: 2, ..case("pipelined_behind_a_body", bodies) });
    cases
}
