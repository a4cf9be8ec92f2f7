"""Schemas of the OpenAPI document that are the same for every service."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

ERROR: Schema = {
    "type": "object",
    "required": ["error", "request_id"],
    "additionalProperties": False,
    "properties": {
        "error": {"type": "string"},
        "request_id": {"type": "string"},
        "faults": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["row", "column", "reason"],
                "additionalProperties": False,
                "properties": {
                    "row": {"type": ["integer", "null"]},
                    "column": {"type": ["string", "null"]},
                    "reason": {"type": "string"},
                },
            },
        },
    },
}

TEXTS: Schema = {"type": "array", "items": {"type": "string"}}
TENSOR: Schema = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
    },
}
METADATA: Schema = {
    "type": "object",
    "required": ["name", "versions", "platform", "inputs", "outputs"],
    "properties": {
        "name": {"type": "string"},
        "versions": TEXTS,
        "platform": {"type": "string"},
        "inputs": {"type": "array", "items": TENSOR},
        "outputs": {"type": "array", "items": TENSOR},
    },
}
SERVER: Schema = {
    "type": "object",
    "required": ["name", "version", "extensions"],
    "properties": {"name": {"type": "string"}, "version": {"type": "string"}, "extensions": TEXTS},
}
DURATION: Schema = {
    "type": "object",
    "required": ["count", "ns"],
    "properties": {"count": {"type": "integer", "minimum": 0}, "ns": {"type": "integer", "minimum": 0}},
}
STATS: Schema = {
    "type": "object",
    "required": ["model_stats"],
    "properties": {
        "model_stats": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "version", "inference_count", "execution_count", "inference_stats"],
                "properties": {
                    "name": {"type": "string"},
                    "version": {"type": "string"},
                    "inference_count": {"type": "integer", "minimum": 0},
                    "execution_count": {"type": "integer", "minimum": 0},
                    "last_inference": {"type": "integer", "minimum": 0},
                    "inference_stats": {"type": "object", "additionalProperties": DURATION},
                },
            },
        }
    },
}
INDEX: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "version", "state", "reason"],
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "state": {"enum": ["READY", "UNAVAILABLE"]},
            "reason": {"type": "string"},
        },
    },
}
TRACE: Schema = {
    "type": "object",
    "required": ["trace_level", "trace_rate", "trace_count"],
    "properties": {"trace_level": TEXTS, "trace_rate": {"type": "string"}, "trace_count": {"type": "string"}},
}
