module github.com/agentedge/agentedge/contract/openaigo

go 1.26.0

require (
	github.com/openai/openai-go/v3 v3.96.0
	github.com/tmaxmax/go-sse v0.11.0
)

require (
	github.com/tidwall/gjson v1.20.0 // indirect
	github.com/tidwall/match v1.1.1 // indirect
	github.com/tidwall/pretty v1.2.1 // indirect
)
