-- From a chat completion of OpenAI to a message of Anthropic. What has no exact counterpart is refused: a parameter that
-- was left out silently would change the answer. The compiler puts json.lua before this file.
-- https://platform.openai.com/docs/api-reference/chat/create, https://docs.claude.com/en/api/messages
local concat = table.concat

local function number_within(value, param, most)
  local number = is_number(value) and tonumber(value)
  if not number or number < 0 or number > most then
    refuse("This model's provider takes '" .. param .. "' from 0 to " .. most .. " only.", param)
  end
end

local function boolean(value, param)
  if value ~= "true" and value ~= "false" then refuse("'" .. param .. "' must be true or false.", param) end
  return value == "true"
end

-- The name may be one that the client made up, and becomes the value of a header.
local function unsupported(param)
  if #param > 128 or find(param, "[^%w_.%[%]-]") then refuse("The request body has an unknown parameter.") end
  refuse("'" .. param .. "' is not supported by this model's provider.", param)
end

-- Parameters by which nothing is asked for when they have one of these values; without one they are refused, as all
-- others are. A null is as good as nothing.
local NOTHING = {
  audio = {}, function_call = {}, functions = {}, moderation = {}, parallel_tool_calls = {}, prediction = {},
  prompt_cache_key = {}, prompt_cache_options = {}, prompt_cache_retention = {}, reasoning_effort = {}, seed = {},
  tool_choice = {}, tools = {}, top_logprobs = {}, verbosity = {}, web_search_options = {}, metadata = {},
  frequency_penalty = { ["0"] = true, ["0.0"] = true },
  logit_bias = {},
  logprobs = { ["false"] = true },
  n = { ["1"] = true },
  presence_penalty = { ["0"] = true, ["0.0"] = true },
  service_tier = { ['"auto"'] = true, ['"default"'] = true },
  store = { ["false"] = true },
}

-- ---- messages

local ROLES = { ['"user"'] = '"user"', ['"assistant"'] = '"assistant"' }
local SYSTEM = { ['"system"'] = true, ['"developer"'] = true }
local OF_MESSAGES = { role = true, content = true }

-- Adds a block for each text of a message to `blocks`.
local function add_texts(content, place, blocks)
  local function add(literal, where)
    if literal == '""' then refuse("'" .. where .. "' must not be empty for this model's provider.", where) end
    blocks[#blocks + 1] = '{"type":"text","text":' .. literal .. "}"
  end
  if is_string(content) then return add(content, place) end
  if not is_array(content) or content.count == 0 then
    refuse("'" .. place .. "' must be a text or a list of texts for this model's provider.", place)
  end
  for index = 1, content.count do
    local where = place .. "[" .. index - 1 .. "]"
    local part = fields_of(content[index])
    if not part then refuse("'" .. where .. "' must be an object.", where) end
    if part.type ~= '"text"' then refuse("This model's provider takes texts only.", where .. ".type") end
    for key in pairs(part) do
      if key ~= "type" and key ~= "text" then unsupported(where .. "." .. key) end
    end
    if not is_string(part.text) then refuse("'" .. where .. ".text' must be a string.", where .. ".text") end
    add(part.text, where .. ".text")
  end
end

-- The members "messages" and perhaps "system" of the provider's request.
local function translate_messages(messages)
  if not is_array(messages) or messages.count == 0 then
    refuse("'messages' must be a list of at least one message.", "messages")
  end
  local system, turns, last = {}, {}, nil
  for index = 1, messages.count do
    local place = "messages[" .. index - 1 .. "]"
    local message = fields_of(messages[index])
    if not message then refuse("'" .. place .. "' must be an object.", place) end
    for key, value in pairs(message) do
      if not OF_MESSAGES[key] and value ~= "null" then unsupported(place .. "." .. key) end
    end
    local role, blocks = message.role, system
    if SYSTEM[role] then
      -- There it would be said before all turns, which is something else.
      if last then
        refuse("This model's provider takes system messages at the beginning only.", place .. ".role")
      end
    elseif ROLES[role] then
      blocks = {}
    else
      refuse("This model's provider takes messages of system, developer, user and assistant only.", place .. ".role")
    end
    add_texts(message.content, place .. ".content", blocks)
    if blocks ~= system then
      -- It would continue its own last words.
      if not last and role ~= '"user"' then
        refuse("For this model's provider the user must speak first.", place .. ".role")
      end
      turns[#turns + 1] = '{"role":' .. role .. ',"content":[' .. concat(blocks, ",") .. "]}"
      last = role
    end
  end
  if last ~= '"user"' then
    refuse("For this model's provider the last message must be the user's.", "messages")
  end
  local found = '"messages":[' .. concat(turns, ",") .. "]"
  if #system > 0 then found = '"system":[' .. concat(system, ",") .. "]," .. found end
  return found
end

-- ---- parameters: each returns the member of the provider's request, or nil

local TRANSLATED = {}

function TRANSLATED.model(value)
  if not is_string(value) then refuse("'model' must be a string.", "model") end
  return '"model":' .. value
end

TRANSLATED.messages = translate_messages

-- https://docs.claude.com/en/api/messages#body-temperature
function TRANSLATED.temperature(value)
  number_within(value, "temperature", 1)
  return '"temperature":' .. value
end

function TRANSLATED.top_p(value)
  number_within(value, "top_p", 1)
  return '"top_p":' .. value
end

local function max_tokens(param)
  return function(value)
    if not (is_number(value) and find(value, "^[1-9]%d*$")) then
      refuse("'" .. param .. "' must be a whole number above 0.", param)
    end
    return '"max_tokens":' .. value
  end
end
TRANSLATED.max_tokens = max_tokens("max_tokens")
TRANSLATED.max_completion_tokens = max_tokens("max_completion_tokens")

local function user(param)
  return function(value)
    if not is_string(value) then refuse("'" .. param .. "' must be a string.", param) end
    return '"metadata":{"user_id":' .. value .. "}"
  end
end
TRANSLATED.user = user("user")
TRANSLATED.safety_identifier = user("safety_identifier")

function TRANSLATED.stop(value)
  local list = is_array(value) and value or { value, count = 1 }
  local found = {}
  for index = 1, list.count do
    local literal = list[index]
    if not is_string(literal) then refuse("'stop' must be a string or a list of strings.", "stop") end
    if not find(gsub(literal, "\\[nrtf]", " "), '[^ "]') then
      refuse("This model's provider takes no 'stop' without a visible character.", "stop")
    end
    found[index] = literal
  end
  if #found == 0 then return nil end
  return '"stop_sequences":[' .. concat(found, ",") .. "]"
end

function TRANSLATED.stream(value)
  return boolean(value, "stream") and '"stream":true' or nil
end

-- Tells nothing to the provider, which always tells the usage.
function TRANSLATED.stream_options(value, fields)
  local options = fields_of(value)
  if not options then refuse("'stream_options' must be an object.", "stream_options") end
  if fields.stream ~= "true" then refuse("'stream_options' is for streams only.", "stream_options") end
  for key, wish in pairs(options) do
    local param = "stream_options." .. key
    if wish ~= "null" and key == "include_usage" then
      boolean(wish, param)
    elseif wish ~= "null" and not (key == "include_obfuscation" and wish == "false") then
      unsupported(param)
    end
  end
end

function TRANSLATED.response_format(value)
  local format = fields_of(value)
  if not format or format.type ~= '"text"' then unsupported("response_format") end
  for key in pairs(format) do
    if key ~= "type" then unsupported("response_format") end
  end
end

function TRANSLATED.modalities(value)
  if not (is_array(value) and value.count == 1 and value[1] == '"text"') then unsupported("modalities") end
end

local ONLY_ONE_OF = { max_completion_tokens = "max_tokens", safety_identifier = "user" }

local function is_given(fields, param)
  return fields[param] ~= nil and fields[param] ~= "null"
end

-- The provider's request for a body, which gets `most_tokens` when it has no limit of its own, and whether the client's
-- stream is to tell the usage.
local function translate(text, most_tokens)
  local fields = fields_of(read_json(text))
  if not fields then refuse("The request body must be a JSON object.") end
  local members = {}
  for param, value in pairs(fields) do
    local nothing, member = NOTHING[param], TRANSLATED[param]
    if member then
      if value ~= "null" then members[#members + 1] = member(value, fields) end
    elseif not nothing or not (value == "null" or nothing[value]) then
      unsupported(param)
    end
  end
  for param in pairs({ messages = true, model = true }) do
    if not is_given(fields, param) then refuse("You must provide '" .. param .. "'.", param) end
  end
  for param, other in pairs(ONLY_ONE_OF) do
    if is_given(fields, param) and is_given(fields, other) then
      refuse("'" .. param .. "' and '" .. other .. "' must not be given together.", param)
    end
  end
  if not (is_given(fields, "max_tokens") or is_given(fields, "max_completion_tokens")) then
    members[#members + 1] = '"max_tokens":' .. most_tokens
  end
  local options = fields_of(fields.stream_options)
  local usage = options and options.include_usage == "true" or false
  return { body = "{" .. concat(members, ",") .. "}", usage = usage }
end
