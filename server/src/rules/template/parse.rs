//! From pieces and words to nodes. Nesting is bounded, so that neither parsing nor running can overflow the stack.
use super::lex::{Piece, Token, Word, pieces, words};
use super::value::Value;

/// Most blocks and parentheses inside one another.
const DEPTH_MAX: usize = 32;

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Text(String),
    Print(Pipe),
    If { pipe: Pipe, then: Vec<Node>, other: Vec<Node> },
    With { pipe: Pipe, then: Vec<Node>, other: Vec<Node> },
    Range { pipe: Pipe, then: Vec<Node>, other: Vec<Node> },
    Break,
    Continue,
}

/// Commands whose answers are the last argument of the next.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pipe {
    pub(super) declares: Vec<String>,
    /// `=` instead of `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

/// An operand; the first of a command may be a function.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand {
    pub(super) base: Base,
    /// `.a.b` behind it.
    pub(super) fields: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Base {
    Literal(Value),
    Dot,
    Variable(String),
    Paren(Box<Pipe>),
    Function(String),
}

/// What ends a list of nodes.
enum End {
    Source,
    /// `{{end}}`
    Block,
    /// With the words of `else if …` or `else with …`.
    Else(Vec<Token>),
}

/// The nodes of `source`, over the variables that are there already.
///
/// # Errors
/// What is wrong, in the words of Go's package where it has them.
pub(super) fn parse(source: &str, variables: &[&str]) -> Result<Vec<Node>, String> {
    let pieces = pieces(source)?;
    let variables = variables.iter().map(|&name| name.to_owned()).collect();
    let mut parser = Parser { pieces: pieces.into_iter(), variables, depth: 0, loops: 0 };
    match parser.list()? {
        (nodes, End::Source) => Ok(nodes),
        (_, End::Block) => Err("unexpected {{end}}".into()),
        (_, End::Else(_)) => Err("unexpected {{else}}".into()),
    }
}

struct Parser<'a> {
    pieces: std::vec::IntoIter<Piece<'a>>,
    variables: Vec<String>,
    depth: usize,
    loops: usize,
}

impl Parser<'_> {
    fn list(&mut self) -> Result<(Vec<Node>, End), String> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let action = match piece {
                Piece::Text("") => continue,
                Piece::Text(text) => {
                    nodes.push(Node::Text(text.to_owned()));
                    continue;
                }
                Piece::Action(action) => words(action)?,
            };
            let keyword = match action.first() {
                None => return Err("missing value for command".into()),
                Some(Token { word: Word::Name(name), .. }) => name.clone(),
                Some(_) => String::new(),
            };
            let rest = || action[1..].to_vec();
            match keyword.as_str() {
                "if" | "with" | "range" => nodes.push(self.block(&keyword, rest())?),
                "end" if action.len() == 1 => return Ok((nodes, End::Block)),
                "else" => return Ok((nodes, End::Else(rest()))),
                "break" | "continue" if action.len() == 1 => {
                    if self.loops == 0 {
                        return Err(format!("{{{{{keyword}}}}} outside {{{{range}}}}"));
                    }
                    nodes.push(if keyword == "break" { Node::Break } else { Node::Continue });
                }
                "define" | "template" | "block" => {
                    return Err(format!("{{{{{keyword}}}}} is not supported: write the text where it is used"));
                }
                _ => nodes.push(Node::Print(self.whole(action, false)?)),
            }
        }
        Ok((nodes, End::Source))
    }

    fn block(&mut self, keyword: &str, head: Vec<Token>) -> Result<Node, String> {
        self.enter()?;
        let (mark, is_range) = (self.variables.len(), keyword == "range");
        let pipe = self.whole(head, is_range)?;
        self.loops += usize::from(is_range);
        let (then, end) = self.list()?;
        self.loops -= usize::from(is_range);
        let other = match end {
            End::Source => return Err("unexpected EOF".into()),
            End::Block => Vec::new(),
            End::Else(words) => self.otherwise(words)?,
        };
        self.variables.truncate(mark);
        self.depth -= 1;
        Ok(match keyword {
            "if" => Node::If { pipe, then, other },
            "with" => Node::With { pipe, then, other },
            _ => Node::Range { pipe, then, other },
        })
    }

    /// What follows `else`, whose words are `words`, up to the end of the block.
    fn otherwise(&mut self, words: Vec<Token>) -> Result<Vec<Node>, String> {
        match words.first().map(|token| &token.word) {
            None => match self.list()? {
                (nodes, End::Block) => Ok(nodes),
                (_, End::Source) => Err("unexpected EOF".into()),
                (_, End::Else(_)) => Err("expected end; found {{else}}".into()),
            },
            Some(Word::Name(name)) if name == "if" || name == "with" => {
                let name = name.clone();
                Ok(vec![self.block(&name, words[1..].to_vec())?])
            }
            Some(_) => Err("unexpected words after else".into()),
        }
    }

    fn enter(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(format!("nested deeper than {DEPTH_MAX}")) } else { Ok(()) }
    }

    /// A pipeline that is all of `tokens`.
    fn whole(&mut self, tokens: Vec<Token>, is_range: bool) -> Result<Pipe, String> {
        let mut at = 0;
        let pipe = self.pipe(&tokens, &mut at, is_range)?;
        if at < tokens.len() { Err("unexpected right paren".into()) } else { Ok(pipe) }
    }

    /// A pipeline up to a closing parenthesis or the end.
    fn pipe(&mut self, tokens: &[Token], at: &mut usize, is_range: bool) -> Result<Pipe, String> {
        let (declares, assigns) = self.declared(tokens, at, is_range)?;
        let mut commands = Vec::new();
        loop {
            let command = self.command(tokens, at)?;
            if command.is_empty() {
                return Err("missing value for command".into());
            }
            commands.push(command);
            match tokens.get(*at).map(|token| &token.word) {
                Some(Word::Pipe) => *at += 1,
                _ => break,
            }
        }
        // Declared only now: a variable is not visible in its own value.
        if !assigns {
            self.variables.extend(declares.iter().cloned());
        }
        Ok(Pipe { declares, assigns, commands })
    }

    /// `$x :=`, `$x =`, and in a range `$i, $x :=`.
    fn declared(&self, tokens: &[Token], at: &mut usize, is_range: bool) -> Result<(Vec<String>, bool), String> {
        let (mut names, mut next) = (Vec::new(), *at);
        while let Some(Token { word: Word::Variable(name), .. }) = tokens.get(next) {
            names.push(name.clone());
            next += 1;
            match tokens.get(next).map(|token| &token.word) {
                Some(Word::Comma) => next += 1,
                Some(word @ (Word::Declare | Word::Assign)) => {
                    let assigns = *word == Word::Assign;
                    if names.len() > if is_range { 2 } else { 1 } {
                        return Err("too many declarations".into());
                    }
                    if let Some(unknown) = names.iter().find(|name| assigns && !self.variables.contains(name)) {
                        return Err(format!("undefined variable {unknown:?}"));
                    }
                    *at = next + 1;
                    return Ok((names, assigns));
                }
                _ => break,
            }
        }
        Ok((Vec::new(), false))
    }

    fn command(&mut self, tokens: &[Token], at: &mut usize) -> Result<Vec<Operand>, String> {
        let mut operands = Vec::new();
        while let Some(token) = tokens.get(*at) {
            if matches!(token.word, Word::Pipe | Word::Close) {
                break;
            }
            *at += 1;
            let mut fields = Vec::new();
            let base = match &token.word {
                Word::Name(name) if name == "true" || name == "false" => Base::Literal(Value::Bool(name == "true")),
                Word::Name(name) if name == "nil" => Base::Literal(Value::Nil),
                Word::Name(name) => Base::Function(name.clone()),
                Word::Field(name) => {
                    fields.push(name.clone());
                    Base::Dot
                }
                Word::Variable(name) => {
                    if name != "$" && !self.variables.contains(name) {
                        return Err(format!("undefined variable {name:?}"));
                    }
                    Base::Variable(name.clone())
                }
                Word::Dot => Base::Dot,
                Word::Text(text) => Base::Literal(Value::Text(text.clone())),
                Word::Int(number) => Base::Literal(Value::Int(*number)),
                Word::Float(number) => Base::Literal(Value::Float(*number)),
                Word::Open => {
                    self.enter()?;
                    let pipe = self.pipe(tokens, at, false)?;
                    if tokens.get(*at).map(|token| &token.word) != Some(&Word::Close) {
                        return Err("unclosed left paren".into());
                    }
                    *at += 1;
                    self.depth -= 1;
                    Base::Paren(Box::new(pipe))
                }
                Word::Pipe | Word::Close | Word::Comma | Word::Declare | Word::Assign => {
                    return Err("unexpected word in operand".into());
                }
            };
            while let Some(Token { word: Word::Field(name), glued: true }) = tokens.get(*at) {
                if matches!(base, Base::Literal(_) | Base::Function(_)) {
                    return Err(format!("unexpected .{name}: put parentheses around what has the field"));
                }
                fields.push(name.clone());
                *at += 1;
            }
            operands.push(Operand { base, fields });
        }
        Ok(operands)
    }
}

/// Names of all functions that `nodes` call.
pub(super) fn functions(nodes: &[Node]) -> Vec<&str> {
    let mut names = Vec::new();
    for node in nodes {
        match node {
            Node::Print(pipe) => functions_of(pipe, &mut names),
            Node::If { pipe, then, other } | Node::With { pipe, then, other } | Node::Range { pipe, then, other } => {
                functions_of(pipe, &mut names);
                names.extend(functions(then));
                names.extend(functions(other));
            }
            Node::Text(_) | Node::Break | Node::Continue => {}
        }
    }
    names
}

fn functions_of<'a>(pipe: &'a Pipe, names: &mut Vec<&'a str>) {
    for operand in pipe.commands.iter().flatten() {
        match &operand.base {
            Base::Function(name) => names.push(name),
            Base::Paren(pipe) => functions_of(pipe, names),
            Base::Literal(_) | Base::Dot | Base::Variable(_) => {}
        }
    }
}
