//! The words of nft's own language, as `nft list` prints it: takes a text, gives its tokens. Comments (`# handle 7`) are no
//! tokens; lines are, since they end a rule.

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'t> {
    Word(&'t str),
    /// Between quotes.
    Quoted(&'t str),
    Open,
    Close,
    Comma,
    Semicolon,
    Line,
}

impl<'t> Token<'t> {
    /// As it stood there, but for quotes.
    pub(super) fn text(self) -> &'t str {
        match self {
            Self::Word(word) | Self::Quoted(word) => word,
            Self::Open => "{",
            Self::Close => "}",
            Self::Comma => ",",
            Self::Semicolon => ";",
            Self::Line => "\n",
        }
    }
}

/// Those of a text, from the beginning to the end.
pub(super) struct Tokens<'t> {
    all: Vec<Token<'t>>,
    next: usize,
}

impl<'t> Tokens<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let mut all = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let after = &rest[first.len_utf8()..];
            let single = match first {
                '{' => Some(Token::Open),
                '}' => Some(Token::Close),
                ',' => Some(Token::Comma),
                ';' => Some(Token::Semicolon),
                '\n' => Some(Token::Line),
                _ => None,
            };
            rest = match (single, first) {
                (Some(token), _) => {
                    all.push(token);
                    after
                }
                (None, '#') => &after[after.find('\n').unwrap_or(after.len())..],
                (None, '"') => {
                    let end = after.find(['"', '\n']).unwrap_or(after.len());
                    all.push(Token::Quoted(&after[..end]));
                    after[end..].strip_prefix('"').unwrap_or(&after[end..])
                }
                (None, blank) if blank.is_whitespace() => after,
                (None, _) => {
                    let ends = |c: char| c.is_whitespace() || matches!(c, '{' | '}' | ',' | ';' | '"');
                    let end = rest.find(ends).unwrap_or(rest.len());
                    all.push(Token::Word(&rest[..end]));
                    &rest[end..]
                }
            };
        }
        Self { all, next: 0 }
    }

    pub(super) fn peek(&self) -> Option<Token<'t>> {
        self.all.get(self.next).copied()
    }

    pub(super) fn next(&mut self) -> Option<Token<'t>> {
        let token = self.peek()?;
        self.next += 1;
        Some(token)
    }

    /// All up to the end of the line, and no further than the brace that closes what is open.
    pub(super) fn rest_of_line(&mut self) -> Vec<Token<'t>> {
        let mut line = Vec::new();
        let mut depth = 0_usize;
        while let Some(token) = self.peek() {
            match token {
                Token::Line | Token::Semicolon | Token::Close if depth == 0 => break,
                Token::Open => depth += 1,
                Token::Close => depth -= 1,
                _ => {}
            }
            line.push(token);
            self.next += 1;
        }
        line.retain(|token| *token != Token::Line);
        line
    }

    /// What is between the next brace and the one that closes it; None where none does.
    pub(super) fn braced(&mut self) -> Option<Vec<Token<'t>>> {
        while self.next()? != Token::Open {}
        let mut inside = Vec::new();
        let mut depth = 0_usize;
        loop {
            let token = self.next()?;
            match token {
                Token::Close if depth == 0 => break,
                Token::Open => depth += 1,
                Token::Close => depth -= 1,
                _ => {}
            }
            inside.push(token);
        }
        inside.retain(|token| *token != Token::Line);
        Some(inside)
    }

    /// Passes over a statement or a block; None where it does not end.
    pub(super) fn skip_statement(&mut self) -> Option<()> {
        self.rest_of_line();
        self.peek().map(|_| ())
    }
}
