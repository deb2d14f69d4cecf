//! The page for supervisors: the files of `control/web/page`, which are part of the program and served as they stand.

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::management::Pages;

/// A file of the page.
struct File {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($path:literal $kind:ident $file:literal;)*) => {
        &[$(File { path: $path, kind: $kind, text: include_str!(concat!("../../web/page/", $file)) },)*]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const FILES: &[File] = files! {
    "/" HTML "index.html";
    "/style.css" CSS "style.css";
    "/icon.svg" SVG "icon.svg";
    "/app.js" JS "app.js";
    "/actions.js" JS "actions.js";
    "/api.js" JS "api.js";
    "/audio.js" JS "audio.js";
    "/dialog.js" JS "dialog.js";
    "/dom.js" JS "dom.js";
    "/poll.js" JS "poll.js";
    "/table.js" JS "table.js";
    "/time.js" JS "time.js";
    "/types.js" JS "types.js";
    "/views/calls.js" JS "views/calls.js";
    "/views/conferences.js" JS "views/conferences.js";
    "/views/devices.js" JS "views/devices.js";
    "/views/history.js" JS "views/history.js";
    "/views/listing.js" JS "views/listing.js";
    "/views/now.js" JS "views/now.js";
    "/views/system.js" JS "views/system.js";
};

/// Nothing from elsewhere, nothing inline, no markup made of strings, and no other page may show this one.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Adds the page's files to what is served.
pub(crate) fn serve(router: Router<Pages>) -> Router<Pages> {
    FILES.iter().fold(router, |router, file| {
        let tag = tag(file.text);
        router.route(
            file.path,
            get(async move |asked: HeaderMap| answer(file, &tag, &asked)),
        )
    })
}

/// Another text has another one.
fn tag(text: &str) -> HeaderValue {
    let tag = format!("\"{:08x}-{:x}\"", crc32fast::hash(text.as_bytes()), text.len());
    HeaderValue::from_str(&tag).expect("digits and hyphens")
}

/// 304 when the browser has it: after another version of the program it asks anew for what is different.
fn answer(file: &File, tag: &HeaderValue, asked: &HeaderMap) -> Response {
    let known = asked.get(header::IF_NONE_MATCH);
    let mut response = match known.is_some_and(|known| known == tag) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, file.kind)], file.text).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag.clone());
    for (name, value) in [
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whatever is served is what it says it is; what goes on is not to be kept by anybody.
pub(crate) async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    fn files_below(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_below(&path, into);
            } else {
                into.push(path);
            }
        }
    }

    #[test]
    fn every_file_of_the_page_is_served() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/page");
        let mut paths = Vec::new();
        files_below(&root, &mut paths);
        let names = paths.iter().map(|path| {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
            format!("/{}", if name == "index.html" { "" } else { name })
        });
        let served: BTreeSet<String> = FILES.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(served, names.collect());
    }

    #[test]
    fn nothing_of_the_page_is_inline() {
        let page = FILES[0].text;
        assert_eq!(
            page.matches("<script").count(),
            page.matches("<script type=\"module\" src=").count()
        );
        for word in [
            "<style",
            "style=",
            " onclick",
            " onload",
            "javascript:",
            "http://",
            "https://",
        ] {
            assert!(!page.contains(word), "{word}");
        }
        for file in FILES.iter().filter(|file| file.kind == JS) {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!file.text.contains(word), "{}: {word}", file.path);
            }
        }
    }

    #[test]
    fn who_has_it_is_not_sent_it_again() {
        let file = &FILES[0];
        let tag = tag(file.text);
        let fresh = answer(file, &tag, &HeaderMap::new());
        assert_eq!(fresh.status(), StatusCode::OK);
        let asked = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag.clone())]);
        let known = answer(file, &tag, &asked);
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(known.headers()[header::ETAG], tag);
        assert!(known.headers().contains_key(header::CONTENT_SECURITY_POLICY));
    }
}
