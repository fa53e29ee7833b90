"""Attribute values of OpenTelemetry's protobuf beside what the server shows of them."""
import base64
import json


def typed(value):
    """Type and content of an `AnyValue`."""
    kind = value.WhichOneof("value")
    match kind:
        case "string_value":
            return "text", value.string_value
        case "bool_value":
            return "boolean", "true" if value.bool_value else "false"
        case "int_value":
            return "integer", str(value.int_value)
        case "double_value":
            return "double", value.double_value
        case "bytes_value":
            return "json", base64.b64encode(value.bytes_value).decode()
        case "array_value" | "kvlist_value":
            return "json", nested(value)
    raise ValueError(f"an attribute without a value: {value}")


def nested(value):
    """An `AnyValue` as JSON has it."""
    kind = value.WhichOneof("value")
    match kind:
        case None:
            return None
        case "array_value":
            return [nested(item) for item in value.array_value.values]
        case "kvlist_value":
            return {pair.key: nested(pair.value) for pair in value.kvlist_value.values}
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind)


def text(value):
    """An `AnyValue` as the value of a label."""
    kind, content = typed(value)
    if isinstance(content, str):
        return content
    if kind == "double":
        return f"{content:g}"
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def texts(attributes):
    """Attributes as labels."""
    return {pair.key: text(pair.value) for pair in attributes}


def sent_attributes(attributes):
    """Attributes with their types, as sent."""
    return {pair.key: list(typed(pair.value)) for pair in attributes}


def read_attributes(values, types):
    """The same from the columns `attributes` and `attribute_types`."""
    # what is a text needs no type
    kinds = {key: types.get(key, "text") for key in values}
    return {key: [kinds[key], content(kinds[key], value)] for key, value in values.items()}


def content(kind, value):
    """A shown value, as far as its type says more than the text."""
    if kind == "double":
        return float(value)
    if kind == "json":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
