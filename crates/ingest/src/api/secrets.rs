//! What must not be in messages: a server may repeat a request's key in the text of its refusal.

use super::login::Login;
use super::request::ApiRequest;

/// Shorter texts are words rather than secrets, and are found in any message.
const CHARS_MIN: usize = 6;

/// Texts of a request that may be secrets.
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// The values of headers, the login, and the values of the query.
    pub(super) fn of(request: &ApiRequest, login: &Login) -> Secrets {
        let mut all: Vec<&str> = request.headers.iter().map(|(_, value)| value.as_str()).collect();
        // The key of "Authorization: Bearer KEY".
        all.extend(request.headers.iter().flat_map(|(_, value)| value.split_whitespace()));
        all.extend(request.query.iter().flat_map(|(_, value)| value.texts()));
        all.extend(request.url.texts().flat_map(|text| text.split(['/', '?', '&', '='])));
        match login {
            Login::None => {}
            Login::Basic { password, .. } => all.push(password),
            Login::OAuth2(oauth2) => all.push(&oauth2.client_secret),
        }
        let mut all: Vec<String> =
            all.into_iter().filter(|text| text.chars().count() >= CHARS_MIN).map(str::to_owned).collect();
        // A secret with another one in it is replaced as a whole.
        all.sort_unstable_by_key(|text| std::cmp::Reverse(text.len()));
        Secrets(all)
    }

    /// The text without the secrets.
    pub(super) fn masked(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}
