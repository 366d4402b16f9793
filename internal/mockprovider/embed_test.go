package mockprovider_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/agentedge/agentedge/internal/mockprovider"
)

const embedPath = "/v1/embeddings"

type vectors struct {
	Model string
	Data  []struct {
		Index     int
		Embedding json.RawMessage
	}
	Usage struct {
		Prompt int `json:"prompt_tokens"`
		Total  int `json:"total_tokens"`
	}
}

func embeddings(t *testing.T, addr, request string) vectors {
	t.Helper()
	res, text := whole(t, addr, embedPath, request)
	var v vectors
	if err := json.Unmarshal([]byte(text), &v); err != nil || res.StatusCode != 200 {
		t.Fatalf("%s: %.300s, %v", res.Status, text, err)
	}
	return v
}

func floats(t *testing.T, raw json.RawMessage) []float32 {
	t.Helper()
	var list []float32
	if raw[0] != '"' {
		if err := json.Unmarshal(raw, &list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		t.Fatal(err)
	}
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for ; len(packed) >= 4; packed = packed[4:] {
		list = append(list, math.Float32frombits(binary.LittleEndian.Uint32(packed)))
	}
	return list
}

func TestEmbeddings(t *testing.T) {
	s, addr := serve(t, mockprovider.Options{})
	v := embeddings(t, addr, `{"model":"e1","input":["one text","another","one text",""]}`)
	if v.Model != "e1" || len(v.Data) != 4 || v.Usage.Prompt != 2+2+2+1 || v.Usage.Total != v.Usage.Prompt {
		t.Fatalf("%s, %d vectors, %+v", v.Model, len(v.Data), v.Usage)
	}
	var lists [][]float32
	for i, d := range v.Data {
		list := floats(t, d.Embedding)
		var sum float64
		for _, f := range list {
			sum += float64(f) * float64(f)
		}
		if d.Index != i || len(list) != 1024 || math.Abs(sum-1) > 1e-5 {
			t.Errorf("vector %d: index %d, %d dimensions, length² %f", i, d.Index, len(list), sum)
		}
		lists = append(lists, list)
	}
	if !reflect.DeepEqual(lists[0], lists[2]) || reflect.DeepEqual(lists[0], lists[1]) {
		t.Error("equal texts differ, or different ones do not")
	}
	packed := embeddings(t, addr, `{"model":"e1","input":"one text","encoding_format":"base64"}`)
	if !reflect.DeepEqual(floats(t, packed.Data[0].Embedding), lists[0]) {
		t.Error("base64 and floats differ")
	}
	for request, dim := range map[string]int{
		`{"input":"a","dimensions":7}`: 7, `{"input":[1,2,3]}`: 1024, `{"input":"a","dimensions":1}`: 1,
	} {
		if got := floats(t, embeddings(t, addr, request).Data[0].Embedding); len(got) != dim {
			t.Errorf("%s: %d dimensions", request, len(got))
		}
	}
	if v := embeddings(t, addr, `{"input":[[1,2],[3]]}`); len(v.Data) != 2 {
		t.Errorf("%d vectors of two token lists", len(v.Data))
	}
	if got := s.Stats(); got.Embeds != 6 || got.Inputs != 10 || got.Chats != 0 || got.Completed != 6 {
		t.Errorf("%+v", got)
	}
}

func TestEmbeddingFaults(t *testing.T) {
	_, addr := serve(t, mockprovider.Options{})
	for _, c := range []struct {
		fault   string
		indices []int
		dim     int
	}{
		{"short", []int{0, 1}, 8}, {"long", []int{0, 1, 2, 3}, 8}, {"gap", []int{0, 1, 3}, 8},
		{"dup", []int{0, 1, 0}, 8}, {"reversed", []int{2, 1, 0}, 8}, {"dim", []int{0, 1, 2}, 7}, {"zero", []int{0, 1, 2}, 8},
	} {
		v := embeddings(t, addr, `{"input":["a [[mock: fault=`+c.fault+`]]","b","c"],"dimensions":8}`)
		var indices []int
		for _, d := range v.Data {
			indices = append(indices, d.Index)
			zero := reflect.DeepEqual(floats(t, d.Embedding), make([]float32, 8))
			if len(floats(t, d.Embedding)) != c.dim || zero != (c.fault == "zero" && d.Index == 0) {
				t.Errorf("%s: vector %d is %s", c.fault, d.Index, d.Embedding)
			}
		}
		if !reflect.DeepEqual(indices, c.indices) {
			t.Errorf("%s: indices %v", c.fault, indices)
		}
	}
	for fault, want := range map[string]string{"nan": "[NaN,", "inf": "[1e39,", "html": "<!doctype", "error-body": `{"error"`} {
		if _, got := whole(t, addr, embedPath, `{"input":"a [[mock: fault=`+fault+`]]"}`); !strings.Contains(got, want) {
			t.Errorf("%s: %.100s", fault, got)
		}
	}
	nan := embeddings(t, addr, `{"input":"a [[mock: fault=nan]]","encoding_format":"base64"}`)
	if f := floats(t, nan.Data[0].Embedding)[0]; f == f {
		t.Errorf("packed: %v", f)
	}
	for script, want := range map[string]string{"status=429 retry-after=5": "HTTP/1.1 429", "fault=fin": ""} {
		if got, _ := raw(t, addr, "POST", embedPath, `{"input":["a","b [[mock: `+script+`]]"]}`); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: %.100q", script, got)
		}
	}
}
