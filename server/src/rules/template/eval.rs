//! Running a template. Text, steps and queries are bounded.
use super::function;
use super::parse::{Base, Node, Operand, Pipe};
use super::value::Value;
use super::{Data, Fault, TEXT_BYTES_MAX};

/// Most nodes that are run, those of loops each time.
const STEPS_MAX: usize = 100_000;
/// Samples of an answer that count as a step where all of them are gone through.
const SAMPLES_A_STEP: usize = 16;

/// The text that `nodes` make of `data`.
///
/// # Errors
/// What cannot be computed, or the query whose answer is needed first.
pub(super) fn run(nodes: &[Node], data: &Data<'_>) -> Result<String, Fault> {
    let variables = vec![
        ("$", Value::Data),
        ("$labels", Value::Map(data.labels.clone())),
        ("$externalLabels", Value::Map(data.external_labels.clone())),
        ("$externalURL", Value::Text(data.external_url.to_owned())),
        ("$value", Value::Float(data.value)),
    ];
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut run = Run { data, variables, out: String::new(), steps: 0 };
    run.walk(nodes, &Value::Data)?;
    Ok(run.out)
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Run<'a> {
    data: &'a Data<'a>,
    variables: Vec<(String, Value)>,
    out: String,
    steps: usize,
}

fn failed<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Failed(message.into()))
}

impl Run<'_> {
    fn walk(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, Fault> {
        for node in nodes {
            self.charge(1)?;
            let flow = match node {
                Node::Text(text) => self.print(text)?,
                Node::Print(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    self.charge_all(&value)?;
                    if pipe.declares.is_empty() { self.print(&value.print())? } else { Flow::On }
                }
                Node::If { pipe, then, other } => self.scoped(|run| {
                    let branch = if run.pipe(pipe, dot)?.is_true() { then } else { other };
                    run.walk(branch, dot)
                })?,
                Node::With { pipe, then, other } => self.scoped(|run| {
                    let value = run.pipe(pipe, dot)?;
                    if value.is_true() { run.walk(then, &value) } else { run.walk(other, dot) }
                })?,
                Node::Range { pipe, then, other } => self.scoped(|run| run.range(pipe, then, other, dot))?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn charge(&mut self, steps: usize) -> Result<(), Fault> {
        self.steps += steps;
        if self.steps > STEPS_MAX {
            return failed(format!("more than {STEPS_MAX} steps: loop over less"));
        }
        Ok(())
    }

    /// For going through all of `value`.
    fn charge_all(&mut self, value: &Value) -> Result<(), Fault> {
        match value {
            Value::Samples(samples) => self.charge(samples.len() / SAMPLES_A_STEP),
            _ => Ok(()),
        }
    }

    fn print(&mut self, text: &str) -> Result<Flow, Fault> {
        if self.out.len() + text.len() > TEXT_BYTES_MAX {
            return failed(format!("the text is longer than {TEXT_BYTES_MAX} bytes"));
        }
        self.out.push_str(text);
        Ok(Flow::On)
    }

    /// Forgets the variables that `work` declares.
    fn scoped<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        let mark = self.variables.len();
        let done = work(self);
        self.variables.truncate(mark);
        done
    }

    fn range(&mut self, pipe: &Pipe, then: &[Node], other: &[Node], dot: &Value) -> Result<Flow, Fault> {
        let over = self.commands(pipe, dot)?;
        self.charge_all(&over)?;
        let items: Vec<(Value, Value)> = match over {
            Value::Samples(samples) => {
                let number = |i: usize| Value::Int(i64::try_from(i).unwrap_or(i64::MAX));
                samples.iter().cloned().enumerate().map(|(i, sample)| (number(i), Value::Sample(sample))).collect()
            }
            Value::Map(labels) => {
                labels.into_iter().map(|(name, value)| (Value::Text(name), Value::Text(value))).collect()
            }
            Value::Nil => Vec::new(),
            value => return failed(format!("range can't iterate over {}", value.print())),
        };
        if items.is_empty() {
            return self.walk(other, dot);
        }
        for (key, value) in items {
            let flow = self.scoped(|run| {
                let values = match pipe.declares.len() {
                    1 => vec![value.clone()],
                    _ => vec![key, value.clone()],
                };
                for (name, value) in pipe.declares.iter().zip(values) {
                    run.set(name, value, pipe.assigns);
                }
                run.walk(then, &value)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn set(&mut self, name: &str, value: Value, assigns: bool) {
        match self.variables.iter_mut().rev().find(|(known, _)| assigns && known == name) {
            Some(variable) => variable.1 = value,
            None => self.variables.push((name.to_owned(), value)),
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, Fault> {
        let value = self.commands(pipe, dot)?;
        if let Some(name) = pipe.declares.first() {
            self.set(name, value.clone(), pipe.assigns);
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, Fault> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &[Operand], dot: &Value, last: Option<Value>) -> Result<Value, Fault> {
        let Some((first, rest)) = command.split_first() else { return Ok(Value::Nil) };
        let Base::Function(name) = &first.base else {
            if !rest.is_empty() || last.is_some() {
                return failed("can't give argument to non-function");
            }
            return self.operand(first, dot);
        };
        if name == "and" || name == "or" {
            return self.decide(name == "and", rest, dot, last);
        }
        let mut args = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            args.push(self.operand(operand, dot)?);
        }
        args.extend(last);
        args.iter().try_for_each(|arg| self.charge_all(arg))?;
        function::call(name, args, self.data)
    }

    /// `and` and `or`: the first argument that decides, or the last; what follows it is not computed.
    fn decide(&mut self, is_and: bool, rest: &[Operand], dot: &Value, last: Option<Value>) -> Result<Value, Fault> {
        let mut value = None;
        for operand in rest {
            let next = self.operand(operand, dot)?;
            if next.is_true() != is_and {
                return Ok(next);
            }
            value = Some(next);
        }
        match last.or(value) {
            Some(value) => Ok(value),
            None => failed("wrong number of args: want at least 1 got 0"),
        }
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, Fault> {
        let mut value = match &operand.base {
            Base::Literal(value) => value.clone(),
            Base::Dot => dot.clone(),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                match found {
                    Some((_, value)) => value.clone(),
                    None => return failed(format!("undefined variable: {name}")),
                }
            }
            Base::Paren(pipe) => self.pipe(pipe, dot)?,
            Base::Function(name) => function::call(name, Vec::new(), self.data)?,
        };
        for field in &operand.fields {
            value = self.field(value, field)?;
        }
        Ok(value)
    }

    fn field(&self, value: Value, field: &str) -> Result<Value, Fault> {
        match (&value, field) {
            (Value::Data, "Labels") => Ok(Value::Map(self.data.labels.clone())),
            (Value::Data, "ExternalLabels") => Ok(Value::Map(self.data.external_labels.clone())),
            (Value::Data, "ExternalURL") => Ok(Value::Text(self.data.external_url.to_owned())),
            (Value::Data, "Value") => Ok(Value::Float(self.data.value)),
            (Value::Sample(sample), "Labels") => Ok(Value::Map(sample.labels.clone())),
            (Value::Sample(sample), "Value") => Ok(Value::Float(sample.value)),
            (Value::Map(labels), name) => Ok(Value::Text(labels.get(name).cloned().unwrap_or_default())),
            (value, name) => failed(format!("can't evaluate field {name} in type {}", value.kind())),
        }
    }
}
