//! The token that whoever changes something over HTTP must show.

use std::{
    fmt, fs,
    sync::{Arc, RwLock},
};

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, header, request::Parts},
};
use subtle::ConstantTimeEq as _;

use crate::{config::Management, limits, management::Pages, problem::Problem};

/// The token, which can be another one after a reload. Without one nobody changes anything.
#[derive(Clone)]
pub(crate) struct Token(Arc<RwLock<Option<Vec<u8>>>>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// From the file or the environment.
    ///
    /// # Errors
    /// Names the setting and what to do.
    pub(crate) fn read(settings: &Management) -> Result<Self, String> {
        let token = token_of(settings)?;
        Ok(Self(Arc::new(RwLock::new(token))))
    }

    /// The one that was read now instead.
    pub(crate) fn exchange(&self, new: &Self) {
        let new = new.0.read().expect("nobody panics while holding it").clone();
        *self.0.write().expect("nobody panics while holding it") = new;
    }

    /// Whoever shows this may change things. The time it takes does not tell how much of it is right.
    fn check(&self, authorization: Option<&[u8]>) -> Result<(), Problem> {
        let known = self.0.read().expect("nobody panics while holding it");
        let Some(known) = known.as_deref() else {
            let detail = "nothing can be changed over HTTP: no token is set; set management.token_file";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        };
        let shown = authorization.and_then(|value| {
            let (scheme, token) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
        });
        let Some(shown) = shown else {
            return Err(Problem::unauthorised(
                "a token is needed; send Authorization: Bearer TOKEN",
            ));
        };
        if bool::from(known.ct_eq(shown.trim_ascii())) {
            Ok(())
        } else {
            Err(Problem::unauthorised(
                "the token is wrong; send that of management.token_file",
            ))
        }
    }
}

fn token_of(settings: &Management) -> Result<Option<Vec<u8>>, String> {
    let (place, token) = if settings.token_file.as_os_str().is_empty() {
        ("management.token".to_owned(), settings.token.clone())
    } else {
        let path = &settings.token_file;
        let place = format!("management.token_file {}", path.display());
        let text =
            fs::read_to_string(path).map_err(|error| format!("{place}: {error}; put the token there"))?;
        if text.trim().is_empty() {
            return Err(format!("{place}: is empty; put the token there"));
        }
        (place, text)
    };
    let token = token.trim();
    if token.is_empty() {
        return Ok(None);
    }
    if token.len() < limits::TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "{place}: is no token; give {} or more letters, digits and signs, such as 32 random ones",
            limits::TOKEN_BYTES_MIN
        ));
    }
    Ok(Some(token.as_bytes().to_vec()))
}

/// A request that may change things: a handler that takes this is not reached by others.
pub(crate) struct Writer;

impl FromRequestParts<Pages> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, pages: &Pages) -> Result<Self, Problem> {
        let shown = parts.headers.get(header::AUTHORIZATION);
        let checked = pages.token.check(shown.map(|value| value.as_bytes()));
        if let Err(problem) = checked {
            tracing::warn!(method = %parts.method, path = parts.uri.path(), "a change without the right token");
            return Err(problem);
        }
        pages.snapshot.forget().await;
        Ok(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse as _;

    fn with(token: &str) -> Token {
        let settings = Management {
            token: token.to_owned(),
            ..Management::default()
        };
        Token::read(&settings).unwrap()
    }

    #[test]
    fn the_right_token_opens_and_nothing_else_does() {
        let token = with("0123456789abcdef");
        let status = |shown: Option<&[u8]>| {
            let checked = token.check(shown);
            checked.map_or_else(|problem| problem.into_response().status().as_u16(), |()| 200)
        };
        assert_eq!(status(Some(b"Bearer 0123456789abcdef")), 200);
        assert_eq!(status(Some(b"bearer 0123456789abcdef")), 200);
        for wrong in [
            None,
            Some(&b""[..]),
            Some(b"Bearer "),
            Some(b"Bearer 0123456789abcde"),
            Some(b"Bearer 0123456789abcdefg"),
            Some(b"Basic 0123456789abcdef"),
            Some(b"0123456789abcdef"),
            Some(b"Bearer \xff"),
        ] {
            assert_eq!(status(wrong), 401, "{wrong:?}");
        }
        let none = with("").check(Some(b"Bearer ")).unwrap_err();
        assert_eq!(none.into_response().status().as_u16(), 403, "off without a token");
    }

    #[test]
    fn a_token_that_anybody_guesses_is_refused() {
        for weak in ["short", "0123456789 bcdef", "0123456789\u{e9}bcdef"] {
            let settings = Management {
                token: weak.to_owned(),
                ..Management::default()
            };
            let refused = Token::read(&settings).unwrap_err();
            assert!(
                refused.starts_with("management.token: is no token; give 16"),
                "{refused}"
            );
        }
        let settings = Management {
            token_file: "/nowhere/token".into(),
            ..Management::default()
        };
        let refused = Token::read(&settings).unwrap_err();
        assert!(
            refused.contains("management.token_file /nowhere/token"),
            "{refused}"
        );
    }
}
