package chat

import (
	"encoding/json"
	"math"
	"strconv"
)

// paramCheck returns what a parameter's value must pass, nil for a name that is
// no parameter. The check returns what the value should have been, "" if it is good.
// Names and ranges are OpenAI's.
func paramCheck(name string) func(json.RawMessage) string {
	switch name {
	case "temperature":
		return number(0, 2)
	case "top_p":
		return number(0, 1)
	case "frequency_penalty", "presence_penalty":
		return number(-2, 2)
	case "max_tokens", "max_completion_tokens":
		return integer(1, math.MaxInt32)
	case "seed":
		return integer(math.MinInt64, math.MaxInt64)
	case "stop":
		return stop
	case "logit_bias":
		return logitBias
	case "tools":
		return tools
	case "tool_choice":
		return toolChoice
	case "parallel_tool_calls":
		return func(raw json.RawMessage) string { return decoded[bool](raw, "true or false") }
	case "response_format":
		return responseFormat
	case "reasoning_effort", "verbosity":
		return word
	}
	return nil
}

func decoded[T any](raw json.RawMessage, want string) string {
	var v T
	if json.Unmarshal(raw, &v) != nil {
		return want
	}
	return ""
}

func number(low, high float64) func(json.RawMessage) string {
	want := "a number from " + strconv.FormatFloat(low, 'g', -1, 64) + " to " + strconv.FormatFloat(high, 'g', -1, 64)
	return func(raw json.RawMessage) string {
		v, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || v < low || v > high {
			return want
		}
		return ""
	}
}

func integer(low, high int64) func(json.RawMessage) string {
	return func(raw json.RawMessage) string {
		v, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil || v < low || v > high {
			return "an integer of at least " + strconv.FormatInt(low, 10)
		}
		return ""
	}
}

func word(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil || s == "" || len(s) > 32 {
		return "a word"
	}
	return ""
}

func stop(raw json.RawMessage) string {
	const want = "a string or up to 4 strings"
	if raw[0] == '"' {
		return ""
	}
	var list []string
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 || len(list) > 4 {
		return want
	}
	return ""
}

func logitBias(raw json.RawMessage) string {
	var bias map[string]float64
	if json.Unmarshal(raw, &bias) != nil || len(bias) > 1024 {
		return "an object of numbers"
	}
	for _, v := range bias {
		if v < -100 || v > 100 {
			return "an object of numbers from -100 to 100"
		}
	}
	return ""
}

func tools(raw json.RawMessage) string {
	const want = "up to 128 tools of type function, each with a name"
	var list []struct {
		Type     string `json:"type"`
		Function *struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 || len(list) > 128 {
		return want
	}
	for _, t := range list {
		if t.Type != "function" || t.Function == nil || t.Function.Name == "" {
			return want
		}
	}
	return ""
}

func toolChoice(raw json.RawMessage) string {
	const want = `"none", "auto", "required" or a function`
	if raw[0] == '{' {
		return ""
	}
	var s string
	if json.Unmarshal(raw, &s) != nil || s != "none" && s != "auto" && s != "required" {
		return want
	}
	return ""
}

func responseFormat(raw json.RawMessage) string {
	var f struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(raw, &f) != nil || f.Type != "text" && f.Type != "json_object" && f.Type != "json_schema" {
		return `an object of type "text", "json_object" or "json_schema"`
	}
	return ""
}
